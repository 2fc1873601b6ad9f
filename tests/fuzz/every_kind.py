"""A schema with a feature of every kind, bounded and not."""

from server.model.schema import Feature, Inferred, Schema

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
        Feature("guided", inferred=Inferred("integer", 0, 1)),
        Feature("guided_flag", inferred=Inferred("flag")),
        Feature("positive", "number", minimum=0),
        Feature("grade", "category", categories=("a", "b"), nullable=False),
    ]
)
