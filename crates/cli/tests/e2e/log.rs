//! The log as viewers see it.
