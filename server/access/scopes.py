"""What a key may be for, and which routes that is."""

#: What a key may do. `admin` may do all of it.
SCOPES = ("score", "explain", "outcomes", "override", "metrics", "admin")
ADMIN = "admin"
#: Asked by who watches the process, without a key: the answers say nothing of models or rows.
OPEN_PATHS = frozenset(
    {"/livez", "/readyz", "/health", "/healthz", "/ping", "/v2/health/live", "/v2/health/ready"}
)
#: By the last part of a path, under any model and version.
_BY_LAST_PART = {
    "predict": "score",
    "batch": "score",
    "infer": "score",
    "explain": "explain",
    "recourse": "explain",
    "outcomes": "outcomes",
    "override": "override",
    "metrics": "metrics",
    "history": "metrics",
    "stats": "metrics",
}
#: Who sends rows may read what rows are like: models, documents, and paths that there are not.
_DESCRIPTIONS = frozenset({"score", "explain", ADMIN})


def scopes_for(path: str) -> frozenset[str]:
    """The scopes of which a key needs one to ask for this path."""
    scope = _BY_LAST_PART.get(path.rpartition("/")[2])
    return frozenset({scope, ADMIN}) if scope is not None else _DESCRIPTIONS
