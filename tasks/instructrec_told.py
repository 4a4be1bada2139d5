"""What a teacher has told of InstructRec's users: the sentence on a preference (P2), the vague intention (I1).

Both come from runs of the task `instructrec-write`, named by their digests, or from a file of JSON lines with `id` and
`text`, where the id is that of a user for preferences, and that of a question (`test-USER`) for intentions.
`intentions=review` is ours and needs no teacher: the reviewer's own first words, its headline and then its text.

These texts are part of the questions, since conventional models read queries, too: their content is among the digests
of the data.
"""

from __future__ import annotations

import json
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from harness.errors import BadData, BadSetting, MissingData, StaleRun
from harness.knobs import knob, knobs
from harness.stages import Stage, agree, as_options, find_stage
from tasks.instructrec_data import Shopping

WRITE = "instructrec-write"
REVIEW_WORDS = 40
"""Of a review that stands for an intention."""


@dataclass(frozen=True)
class Told(Shopping, ABC):
    """Shopping with a teacher's texts."""

    name: ClassVar[str]

    preferences: str = knob("", f"digest of a run of '{WRITE}' with what=preference, or a .jsonl file", hashed=False)
    intentions: str = knob(
        "review", f"digests of runs of '{WRITE}', one for each split, a .jsonl file, or the reviews as they are",
        hashed=False,
    )  # fmt: skip
    runs: str = knob("runs", "folder that holds these runs", hashed=False)
    line: bool = knob(False, "end prompts with a line end: for models that go on from their prompt, where an answer "
                      "would touch its last word")  # fmt: skip

    def preference_of(self, user: int) -> str:
        """The sentence on a user's preference; empty where the teacher wrote none.

        BadSetting: no teacher is named. StaleRun: it was not asked about this user.
        """
        if not self.preferences:
            raise BadSetting(
                "the sentence on a preference (P2) is a teacher's; name its texts with preferences=, or make them with "
                f"`{self._command('preference')}`"
            )
        name = self._data.users[user]
        if name not in self._preferences:
            raise StaleRun(
                f"preferences={self.preferences} has none of user {name}; make those of all with "
                f"`{self._command('preference')}`"
            )
        return self._preferences[name]

    def vague(self, question: str, user: int, place: int) -> str:
        """The vague intention behind an event; empty where nobody wrote one, and for training events that the teacher
        was not asked about. StaleRun: it was not asked about a question of validation or test."""
        if self.intentions == "review":
            return " ".join(self.review(user, place).split()[:REVIEW_WORDS])
        if question not in self._intentions and not question.startswith("train-"):
            raise StaleRun(
                f"intentions={self.intentions} has no intention for {question}; make one with `{self._command()}`"
            )
        return self._intentions.get(question, "")

    def ended_prompt(self, prompt: str) -> str:
        """A prompt with the line end behind it that is wanted."""
        return prompt + "\n" if self.line else prompt

    def told_digests(self, preference: bool, vague: bool) -> Mapping[str, str]:
        """Content hashes of the texts that are used."""
        found: dict[str, str] = {}
        if self.items == "reviews" or (vague and self.intentions == "review"):
            found["reviews"] = self.reviews_digest
        if preference and self.preferences:
            found["preferences"] = _digest(self._preferences)
        if vague and self.intentions != "review":
            found["intentions"] = _digest(self._intentions)
        return found

    @property
    def told_preferences(self) -> Sequence[str]:
        """All sentences on preferences."""
        return tuple(self._preferences.values())

    @property
    def told_intentions(self) -> Sequence[str]:
        """All vague intentions of a teacher's; reviews as they are are none."""
        return () if self.intentions == "review" else tuple(self._intentions.values())

    @cached_property
    def _preferences(self) -> Mapping[str, str]:
        """By user."""
        if not self.preferences:
            return {}
        if self.preferences.endswith(".jsonl"):
            return _read(Path(self.preferences).expanduser())
        stage = self._stage(self.preferences, "preference")
        return {name.partition("-")[2]: text.strip() for name, text in stage.texts.items()}

    @cached_property
    def _intentions(self) -> Mapping[str, str]:
        """By question."""
        if self.intentions.endswith(".jsonl"):
            return _read(Path(self.intentions).expanduser())
        found: dict[str, str] = {}
        for digest in self.intentions.split(","):
            found |= {name: text.strip() for name, text in self._stage(digest.strip(), "intention").texts.items()}
        return found

    def _stage(self, digest: str, what: str) -> Stage:
        """A run of the teacher's. StaleRun: it was asked something else, or of other data."""
        stage = find_stage(Path(self.runs), WRITE, digest, self._command(what))
        ours = {k.name: getattr(self, k.name) for k in knobs(Shopping) if k.instances}
        agree(stage, {"what": what, **ours, self.dataset: self._whole.digest}, self._command(what))
        return stage

    def _command(self, what: str = "intention") -> str:
        changed = {k.name: getattr(self, k.name) for k in knobs(Shopping) if getattr(self, k.name) != k.default}
        return f"harness run --task {WRITE}{as_options({'what': what, **changed})} --model MODEL"


def _read(path: Path) -> Mapping[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise MissingData(f"{path} cannot be read ({error.strerror}); name a file of JSON lines") from None
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: expected UTF-8, found the byte {error.object[error.start]:#x}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            found[row["id"]] = row["text"]
            right = isinstance(row["text"], str) and isinstance(row["id"], str)
        except (ValueError, KeyError, TypeError, RecursionError):
            right = False
        if not right:
            raise BadData(f'{path}, line {number}: expected {{"id": ..., "text": ...}}, found {line[:80]!r}')
    return found


def _digest(texts: Mapping[str, str]) -> str:
    return sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()[:12]
