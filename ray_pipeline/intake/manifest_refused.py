"""Why a manifest cannot be worked on."""


class ManifestRefused(ValueError):
    """The manifest is not what the job needs. One line: the value found and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
