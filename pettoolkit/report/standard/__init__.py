"""The four standard reports and the label of a released table: they render documents, and measure nothing."""
