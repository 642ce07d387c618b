"""Which technology for which situation: sourced rules, recorded runs, and what is too thin to say."""
