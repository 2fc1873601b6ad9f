"""Which column of a request's table holds which feature: of CSV and Arrow alike."""

from collections.abc import Sequence

from server.errors import FieldError, TableRefused, UnacceptableRow
from server.model.schema import Feature, Schema, pointer
from server.scoring.row_id import MEMBER, takes_id
from server.tables.columns import FeatureNames

_NO_COLUMN = "expected no such column"
#: As pandas and R write the numbers of rows.
_NO_NAME = (
    "expected no column without a name: write the table without its index "
    "(pandas: index=False, R: row.names=FALSE)"
)


def feature_columns(header: Sequence[str], names: FeatureNames, schema: Schema) -> dict[int, Feature]:
    """The feature of each column that has one, by the column's place; the others are a row's id or ignored.

    Raises `UnacceptableRow` of other columns, and of one twice.
    """
    beside = {*schema.ignored, MEMBER} if takes_id(schema) else set(schema.ignored)
    unknown = [name for name in header if names(name) is None and name not in beside]
    errors = [FieldError(pointer(name), _NO_COLUMN if name else _NO_NAME, "unknown") for name in unknown]
    try:
        columns = names.match(header, "the body")
    except TableRefused as error:
        raise UnacceptableRow(str(error), errors=errors) from None
    if errors or len(columns.positions) + len(beside & set(header)) != len(header):
        errors = errors or [FieldError("", "expected each column once")]
        raise UnacceptableRow("expected columns named as the model's features, got others", errors=errors)
    return {position: schema[name] for name, position in columns.positions.items()}
