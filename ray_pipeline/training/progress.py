"""How far a training is, and what its last steps were like."""

from dataclasses import dataclass, field

SHARE = 0.03  # of a new value in the running mean of a metric


@dataclass
class Progress:
    """What a resumed run needs besides weights. `averages` are running means of metrics."""

    step: int = 0
    seconds: float = 0.0
    averages: dict[str, float] = field(default_factory=dict)

    def note(self, metrics: dict[str, float]) -> None:
        """Mix new values into the running means."""
        for name, value in metrics.items():
            old = self.averages.get(name, value)
            self.averages[name] = old + SHARE * (value - old)

    def line(self) -> dict[str, object]:
        """For the log: every count, the minutes, and the running means by name."""
        counts = {name: value for name, value in self.__dict__.items() if name not in ("seconds", "averages")}
        averages = {name: round(value, 4) for name, value in sorted(self.averages.items())}
        return counts | {"minutes": round(self.seconds / 60, 1)} | averages
