"""The comparison report: one page of HTML for an experiment, from its recorded cells."""
