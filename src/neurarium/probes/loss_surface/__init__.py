"""The loss as a function of the parameters: lines, planes, runs, curvature."""
