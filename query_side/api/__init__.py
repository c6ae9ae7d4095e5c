"""What all routes share: parameters, content negotiation, responses, and the bytes that wait for readers."""
