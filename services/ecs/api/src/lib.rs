//! Generated: the ecs API's types, shape tables, service trait and routes
