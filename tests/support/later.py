"""A loop that only notes what is put off, for the test to do."""

from collections.abc import Callable

from penlib.loop import Timer


class Later:
    """Stands in for a Loop where nothing but `after` is called."""

    def __init__(self) -> None:
        self.put_off: list[Timer] = []

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Note it; `when` is in so many seconds."""
        self.put_off.append(Timer(seconds, action))
        return self.put_off[-1]

    def due(self) -> list[Timer]:
        """What was put off and not cancelled."""
        return [timer for timer in self.put_off if timer.action]
