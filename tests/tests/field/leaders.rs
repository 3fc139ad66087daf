//! Probes, handlers and registration.
