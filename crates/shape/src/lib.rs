//! Shape tables and visitors: what generated code speaks and codecs read; no I/O
