//! The whole story of publisher, outlet and cloud, told by chance.
