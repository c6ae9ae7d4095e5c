"""Programs of other people that do what Footfall does, to be measured and tested beside it."""
