"""Tables: rows of named numbers in; class probabilities or a number out."""
