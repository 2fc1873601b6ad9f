"""Tables read, or drawn, and the rows of the features they give."""
