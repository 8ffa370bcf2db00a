"""One call: from text and arrays to numbers; comparison of methods and frameworks."""
