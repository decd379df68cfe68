//! Codecs, SigV4 and the request pipeline
