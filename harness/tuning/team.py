"""Several devices at one training, as `accelerate launch` starts them: one process each, of which the first leads."""

from __future__ import annotations

import os


class Team:
    """The processes of one training; mostly there is one."""

    def __init__(self, leads: bool, alone: bool) -> None:
        self.leads = leads
        self._alone = alone
        self._told = False

    @classmethod
    def join(cls) -> Team:
        """Find the others, if a launcher started any."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(leads=True, alone=True)
        from accelerate import PartialState

        return cls(leads=PartialState().is_main_process, alone=False)

    def tell(self, message: str | None) -> None:
        """Say one thing to the others, once; what is said later stays unheard."""
        if not self._told:
            self._told = True
            self._broadcast(message)

    def hear(self) -> str | None:
        """What the leading process tells."""
        return self._broadcast(None)

    def _broadcast(self, message: str | None) -> str | None:
        if self._alone:
            return message
        from accelerate.utils import broadcast_object_list

        heard: list[str | None] = broadcast_object_list([message])
        return heard[0]
