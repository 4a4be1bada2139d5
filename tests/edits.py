"""Files of a run as somebody with an editor would leave them: changed on purpose, and without a checksum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def unsealed(file: Path) -> dict[str, Any]:
    """What a JSON file of a run says, to be changed and written again."""
    content: dict[str, Any] = json.loads(file.read_text())
    content.pop("sum", None)
    return content
