//! Records, tables, transactions, watches and history on a durable journal
