// Package openapi makes the OpenAPI 3.1 description of the HTTP API out of what is
// written once elsewhere: request bodies are the very JSON Schemas that handlers
// check them with, policies and microversions come from the router, and the YAML
// files here say what neither knows. DESIGN.md of api tells how those are written.
package openapi
