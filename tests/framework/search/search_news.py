"""A hook that notes what searches tell."""

from __future__ import annotations

from billhook import SearchProgress, hookimpl


class Listening:
    """Notes the news."""

    def __init__(self) -> None:
        self.news: list[SearchProgress] = []

    @hookimpl
    def billhook_on_search(self, progress: SearchProgress) -> None:
        self.news.append(progress)
