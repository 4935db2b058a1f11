package main

import (
	"strings"
	"sync"
)

// memory is what steps have learned, by names: later ones say {name} for it.
type memory struct {
	mu    sync.Mutex
	known map[string]string
}

func newMemory() *memory { return &memory{known: map[string]string{}} }

func (m *memory) set(name, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[name] = value
}

// expand replaces each {name}.
func (m *memory) expand(text string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, value := range m.known {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

func (m *memory) expandAll(r row) row {
	all := row{}
	for name, value := range r {
		all[name] = m.expand(value)
	}
	return all
}
