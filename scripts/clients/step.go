package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// stage is a part of the story. Its steps go on at once: none needs another.
type stage struct {
	title string
	steps []step
}

// step is one use of a client, and what is expected of it.
type step struct {
	client  string
	version string // microversion
	command string // without the client's name; for gophercloud a title
	do      call   // for gophercloud, and what happens meanwhile
	user    string // of Keystone; empty: the administrator
	token   string // to ask with, instead of logging in
	exit    int    // expected
	again   bool   // until it is as expected, or patience ends
	long    bool   // left out of the short story
	checks  []check
}

// call is a use of gophercloud. What it returns is checked as JSON.
type call func(context.Context, *gophercloud.ServiceClient, *memory) (any, error)

// check says what is wrong with an output. What it learns it may remember.
type check func(output, *memory) error

func cinder(version, command string) step {
	return step{client: cinderClient, version: version, command: command}
}

func openstack(version, command string) step {
	return step{client: openstackClient, version: version, command: command}
}

func lockstep(command string) step { return step{client: lockstepClient, command: command} }

// gopher asks with the first microversion that knows the replication of clusters.
func gopher(title string, do call) step {
	return step{client: gopherClient, version: "3.26", command: title, do: do}
}

// happens is something that is done to what surrounds the clients.
func happens(title string, do func() error) step {
	return step{client: meanwhile, command: title, do: func(context.Context, *gophercloud.ServiceClient, *memory) (any, error) {
		return nil, do()
	}}
}

// as has the step taken by another user, where there are users.
func (s step) as(user string) step {
	s.user = user
	return s
}

// withToken has the step taken with a token.
func (s step) withToken(token string) step {
	s.token = token
	return s
}

func (s step) and(c check) step {
	s.checks = append(slices.Clip(s.checks), c)
	return s
}

// more leaves the step out of the short story.
func (s step) more() step {
	s.long = true
	return s
}

// until repeats the command until all that is expected holds.
func (s step) until() step {
	s.again = true
	return s
}

// has wants a row in the list that has these values.
func (s step) has(want row) step {
	return s.and(func(o output, known *memory) error {
		rows, err := o.rows()
		if err != nil {
			return err
		}
		expected := known.expandAll(want)
		for _, r := range rows {
			if r.contains(expected) {
				return nil
			}
		}
		return fmt.Errorf("rows\n got: %v\nwant: one with %v", rows, expected)
	})
}

// count wants so many rows.
func (s step) count(want int) step {
	return s.and(func(o output, _ *memory) error {
		rows, err := o.rows()
		if err == nil && len(rows) != want {
			err = fmt.Errorf("rows\n got: %d, %v\nwant: %d", len(rows), rows, want)
		}
		return err
	})
}

// shows wants a record with these properties.
func (s step) shows(want row) step {
	return s.and(func(o output, known *memory) error {
		r, err := o.record()
		if expected := known.expandAll(want); err == nil && !r.contains(expected) {
			err = fmt.Errorf("properties\n got: %v\nwant: %v", r, expected)
		}
		return err
	})
}

// saves remembers a property of the record under a name.
func (s step) saves(name, property string) step {
	return s.and(func(o output, known *memory) error {
		r, err := o.record()
		if err == nil && r[property] == "" {
			err = fmt.Errorf("properties\n got: %v\nwant: one called %q", r, property)
		}
		known.set(name, r[property])
		return err
	})
}

// silent wants nothing on standard output.
func (s step) silent() step {
	return s.and(func(o output, _ *memory) error {
		if text := strings.TrimSpace(o.stdout); text != "" {
			return fmt.Errorf("standard output\n got: %q\nwant: nothing", text)
		}
		return nil
	})
}

// says wants a text somewhere in what is printed.
func (s step) says(want string) step {
	return s.and(func(o output, known *memory) error {
		if text := known.expand(want); !strings.Contains(o.stdout+o.stderr, text) {
			return fmt.Errorf("output\n got: %q\nwant: %q in it", o.stdout+o.stderr, text)
		}
		return nil
	})
}

// ends wants an exit code.
func (s step) ends(code int) step {
	s.exit = code
	return s
}

// fails wants an exit code, and a text on standard error.
func (s step) fails(code int, says string) step {
	return s.ends(code).silent().and(func(o output, known *memory) error {
		if text := known.expand(says); !strings.Contains(o.stderr, text) {
			return fmt.Errorf("standard error\n got: %q\nwant: %q in it", o.stderr, text)
		}
		return nil
	})
}

// refused wants the client to fail with the server's words, and no others.
func (s step) refused(status int, message string) step {
	return s.ends(1).silent().and(func(o output, known *memory) error {
		got, err := o.complaint()
		if want := fmt.Sprintf("%s (HTTP %d)", known.expand(message), status); err == nil && got != want {
			err = fmt.Errorf("refusal\n got: %s\nwant: %s", got, want)
		}
		return err
	})
}

// judge says all that is wrong with an output.
func (s step) judge(o output, known *memory) error {
	var errs []error
	if o.code != s.exit {
		errs = append(errs, fmt.Errorf("exit code\n got: %d, with %q\nwant: %d", o.code, o.stderr, s.exit))
	}
	for _, c := range s.checks {
		errs = append(errs, c(o, known))
	}
	return errors.Join(errs...)
}

func (r row) contains(want row) bool {
	for name, value := range want {
		if got, ok := r[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// split divides a command at spaces that are not between single quotes.
func split(command string) (args []string) {
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			args[len(args)-1] += part
			continue
		}
		words := strings.Fields(part)
		if strings.HasSuffix(part, " ") {
			words = append(words, "")
		}
		args = append(args, words...)
	}
	return slices.DeleteFunc(args, func(arg string) bool { return arg == "" })
}

// with returns a row that has the values of another one, too.
func (r row) with(more row) row {
	all := maps.Clone(r)
	maps.Copy(all, more)
	return all
}
