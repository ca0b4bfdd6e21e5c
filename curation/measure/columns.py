"""What every measure gives back: columns of the ledger, each a number with a unit and a range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Columns(BaseModel):
    """Columns of one family of measures; None where a clip cannot be measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Scale:
    """What the numbers of a column mean: their unit and the range they can have, ends included."""

    unit: str = ""
    low: float | None = None
    high: float | None = None


def column(
    description: str, unit: str = "", low: float | None = None, high: float | None = None
) -> Any:
    """A column that is None until measured; `unit` is "" for shares, scores and counts."""
    extra: dict[str, Any] = {"unit": unit, "low": low, "high": high}
    return Field(default=None, description=description, json_schema_extra=extra)


def scale(columns: type[BaseModel], name: str) -> Scale | None:
    """The scale of a column made by `column`; None for one without a scale.

    Raises KeyError for a name that is no column.
    """
    extra = columns.model_fields[name].json_schema_extra
    if not isinstance(extra, dict) or "unit" not in extra:
        return None
    values: dict[str, Any] = dict(extra)
    return Scale(values["unit"], values["low"], values["high"])
