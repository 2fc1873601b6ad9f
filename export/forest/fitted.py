"""Whether an estimator was fitted, whatever library it is of."""

from typing import Any


def is_fitted(model: Any) -> bool:
    """False for what scikit-learn's convention calls not fitted; True for what follows none."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    except TypeError:  # no estimator
        return True
    return True
