//! Which axes of which parameters must change together.
