"""The predictors: logistic regression and small multilayer perceptrons, and how they are trained."""
