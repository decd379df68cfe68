//! Generated: the logs API's types, shape tables, service trait and routes
