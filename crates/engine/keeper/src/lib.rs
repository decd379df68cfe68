//! The long-lived process that parents every container, and the client that speaks to it
