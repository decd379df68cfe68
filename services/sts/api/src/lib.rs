//! Generated: the sts API's types, shape tables, service trait and routes
