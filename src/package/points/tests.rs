//! Point tables as engineers write them.
