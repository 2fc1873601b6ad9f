"""A schema with a feature of every kind, bounded and not."""

from server.model.schema import Feature, Schema

EVERY_KIND = Schema(
    [
        Feature(
            "income", "number", label="Monthly income", unit="EUR", minimum=0, maximum=1e6, nullable=False
        ),
        Feature("contract", "category", label="Contract", categories=("permanent", "fixed-term", "none")),
        Feature("owner", "flag", label="Owns a home"),
        Feature("children", "integer", minimum=0, maximum=20),
        Feature("points", "integer"),
        Feature("free", "number"),
        Feature("guided", "number", minimum=0, maximum=1, inferred=True),
        Feature("positive", "number", minimum=0),
        Feature("grade", "category", categories=("a", "b"), nullable=False),
    ]
)
