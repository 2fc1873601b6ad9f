"""Excel workbooks, by openpyxl in a process of its own, which may die of what it is given."""
