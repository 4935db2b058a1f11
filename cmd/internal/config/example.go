package config

import _ "embed" // for example.yaml

//go:embed example.yaml
var example string

// Example returns a complete, commented configuration that is itself valid.
func Example() string { return example }
