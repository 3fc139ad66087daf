//! What the doors take and refuse, and that one caller, row or payload takes no neighbour along.
