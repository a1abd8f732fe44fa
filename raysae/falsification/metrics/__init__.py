"""One file per criterion: columns per document or unit from arrays; `summarise` makes a Metric of arms and seeds."""
