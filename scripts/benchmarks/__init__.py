"""The measurements of the bench scripts: random weights, timed processes, exports, profiles and reports."""
