//! Opening packages, kind and hostile.
