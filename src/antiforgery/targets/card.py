"""The fact card of a target, read from a TOML file without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from antiforgery.errors import UsageError
from antiforgery.targets.onnx_card import OnnxCard
from antiforgery.weights.reference import WeightsRef

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Point", "Role", "TargetCard", "WeightsRef", "parse_card"]

Point = tuple[float, float]
Role = Literal["edited", "source", "swapped", "animated"]
"""What a photo is to a target: see the table of words in the documentation."""
LARGEST = 4096
"""The largest side of a crop; a card could ask for more pixels than there is memory."""
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class TargetCard:
    """Facts about a target.

    ``template`` are five landmarks (left eye, right eye, nose, left and right mouth corner, as
    seen) as fractions of the square crop; ``size`` is the crop's side in pixels.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # a misspelt key is an error

    name: str
    title: str
    paper: str
    licence: str
    commercial_use: bool
    roles: tuple[Role, ...]
    size: int
    template: tuple[Point, Point, Point, Point, Point]
    deterministic: bool
    loader: str
    """``package.module:callable`` that takes the card and returns the target."""
    weights: WeightsRef | None = None
    universal: WeightsRef | None = None
    """A change of the crop that leads this instance astray on most faces, in Lab units."""
    attributes: tuple[str, ...] = ()
    """What the weights edit, in the order of their condition, where the file does not tell."""
    onnx: OnnxCard | None = None
    """What the weights take and give, where they are an ONNX file."""
    judge_only: bool = False
    """Trained with another seed to test transfer; nothing is optimised against it."""
    notes: str = ""

    def refuse_if_judge(self) -> None:
        """Raise ``UsageError`` where a photo is to be protected against what only judges.

        Whoever names a judge there has mistaken it: what is made against it, it cannot judge.
        """
        if self.judge_only:
            raise UsageError(
                f"{self.name} is there to tell how well a change carries over to a model that it "
                f"was not made against: protect against another target, and name {self.name} in "
                "verify."
            )


def parse_card(text: str, origin: str) -> TargetCard:
    """Read a card from TOML; ``origin`` is what messages call the file.

    Raises:
        UsageError: It is no TOML, or a key is missing, unknown, or of the wrong type.
    """
    import tomllib

    from pydantic import ValidationError

    try:
        card = _validator().validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the card {origin} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise UsageError(f"the card {origin} is wrong: {_first_problem(error.errors())}") from error
    if not card.roles:
        raise UsageError(f"the card {origin} is wrong: roles names none of {', '.join(ROLES)}")
    require_size(card.size, f"the card {origin} is wrong: size")
    return card


@cache
def _validator() -> TypeAdapter[TargetCard]:
    """What checks a card; to make it takes longer than to use it."""
    from pydantic import TypeAdapter

    return TypeAdapter(TargetCard)


def require_size(size: int, what: str) -> None:
    """Raise ``UsageError`` where no crop is of that side; ``what`` begins the sentence."""
    if not 1 <= size <= LARGEST:
        raise UsageError(f"{what} is {size}, where a crop has 1 to {LARGEST} pixels")


def _first_problem(problems: list[Any]) -> str:
    first = problems[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
