"""From a cut to the map that makes up for it: sums at a site, regressions streamed from the model, repairs on trial
and at the end."""
