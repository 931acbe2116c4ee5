"""What the user can put right, told in one line."""


class UserError(Exception):
    """The message says the rule, what arrived, and the likely fix; `status` becomes the exit status."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status
