"""Why a row is scored as it is."""
