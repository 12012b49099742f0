//! What a correct replica and a usable S3 endpoint are, independent of the product's code.
