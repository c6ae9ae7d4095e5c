"""Elasticsearch and OpenSearch as targets: a data stream for each tenant."""
