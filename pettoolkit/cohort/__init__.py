"""Who the patients are: contracts, the three sources of cohorts, the landmark, and the encoding that models see."""
