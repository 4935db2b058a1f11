package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// fakeKeystone is as much of Keystone as this package asks for. It counts.
type fakeKeystone struct {
	mu       sync.Mutex
	password string
	service  int             // logins; the service account's token is the last
	known    map[string]bool // tokens
	status   int             // instead of an answer
	asked    int
	expires  time.Time
	nobody   bool // tokens are good, and of no user
	slow     time.Duration
}

func (k *fakeKeystone) RoundTrip(r *http.Request) (*http.Response, error) {
	k.mu.Lock()
	slow := k.slow
	k.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := httptest.NewRecorder()
	switch {
	case k.status < 0:
		return nil, errors.New("no route to host")
	case k.status > 0:
		http.Error(w, `{"error":{"message":"`+r.Header.Get("X-Subject-Token")+`"}}`, k.status)
	case r.Method == http.MethodPost:
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		if !strings.Contains(string(body[:n]), `"password":"`+k.password+`"`) {
			http.Error(w, "{}", http.StatusUnauthorized)
			break
		}
		k.service++
		w.Header().Set("X-Subject-Token", fmt.Sprint("service", k.service))
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"token":{"expires_at":%q}}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	case r.Header.Get("X-Auth-Token") != fmt.Sprint("service", k.service):
		http.Error(w, "{}", http.StatusUnauthorized)
	default:
		k.asked++
		if !k.known[r.Header.Get("X-Subject-Token")] {
			http.Error(w, "{}", http.StatusNotFound)
			break
		}
		user := `"user":{"id":"u1"},`
		if k.nobody {
			user = ""
		}
		_, _ = fmt.Fprintf(w, `{"token":{"expires_at":%q,%s"project":{"id":"p1"},"roles":[{"name":"member"},{"name":"admin"},{"name":"x"}]}}`,
			k.expires.UTC().Format(time.RFC3339Nano), user)
	}
	return w.Result(), nil
}

func (k *fakeKeystone) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *fakeKeystone) looks() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

// keystone returns an authenticator on a fake, and a password that can change.
func keystone(t *testing.T, size int) (*auth.Keystone, *fakeKeystone) {
	t.Helper()
	fake := &fakeKeystone{password: "one", known: map[string]bool{"gAAAA1": true}, expires: time.Now().Add(24 * time.Hour)}
	k, err := auth.NewKeystone(auth.KeystoneConfig{
		AuthURL: "http://keystone:5000/v3", Username: "lockstep", UserDomain: "Default", Project: "service", ProjectDomain: "Default",
		Password: func() (string, error) { fake.mu.Lock(); defer fake.mu.Unlock(); return fake.password, nil },
		TTL:      time.Minute, Size: size, HTTP: &http.Client{Transport: fake},
	})
	if err != nil {
		t.Fatal(err)
	}
	return k, fake
}

func TestKeystone(t *testing.T) {
	t.Parallel()
	is := func(t *testing.T, k *auth.Keystone, token string, want error) {
		t.Helper()
		caller, err := k.Authenticate(t.Context(), token)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", token, err, want)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("the error tells the token: %v", err)
		}
		if want == nil && (caller.User != "u1" || caller.Project != "p1" || strings.Join(caller.Roles, " ") != "member admin") {
			t.Errorf("%q: %+v", token, caller)
		}
	}
	for name, story := range map[string]func(*testing.T, *auth.Keystone, *fakeKeystone){
		"an answer is believed for a time": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			for range 5 {
				is(t, k, "gAAAA1", nil)
				is(t, k, "gAAAA2", auth.ErrUnauthorized)
			}
			if n := fake.looks(); n != 2 {
				t.Errorf("asked %d times", n)
			}
			fake.set(func() { fake.known["gAAAA1"] = false }) // revoked
			<-time.After(59 * time.Second)
			is(t, k, "gAAAA1", nil)
			<-time.After(time.Second)
			is(t, k, "gAAAA1", auth.ErrUnauthorized)
		},
		"but not longer than the token is good": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			fake.set(func() { fake.expires = time.Now().Add(10 * time.Second) })
			is(t, k, "gAAAA1", nil)
			<-time.After(10 * time.Second)
			is(t, k, "gAAAA1", auth.ErrUnauthorized)
		},
		"a token of no user is nobody's": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			fake.set(func() { fake.nobody = true })
			is(t, k, "gAAAA1", auth.ErrUnauthorized)
		},
		"Keystone is down": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			is(t, k, "gAAAA1", nil)
			for _, status := range []int{-1, 500, 503, 403} {
				fake.set(func() { fake.status = status })
				is(t, k, "gAAAA1", nil)
				is(t, k, "gAAAA3", auth.ErrUnavailable)
			}
			fake.set(func() { fake.status = 0 })
			is(t, k, "gAAAA3", auth.ErrUnauthorized)
		},
		"Keystone is slow": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			fake.set(func() { fake.slow = 3 * time.Second })
			is(t, k, "gAAAA1", auth.ErrUnavailable) // logging in has taken most of the time
			is(t, k, "gAAAA1", nil)
			fake.set(func() { fake.slow = 6 * time.Second })
			is(t, k, "gAAAA2", auth.ErrUnavailable)
			fake.set(func() { fake.slow = 0 })
			is(t, k, "gAAAA2", auth.ErrUnauthorized)
			fake.set(func() {
				if fake.service != 1 {
					t.Errorf("logged in %d times", fake.service)
				}
			})
		},
		"the service account's token ends": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			is(t, k, "gAAAA2", auth.ErrUnauthorized)
			fake.set(func() { fake.service = 7 })
			is(t, k, "gAAAA1", nil)
		},
		"the service account's password changes": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			is(t, k, "gAAAA2", auth.ErrUnauthorized)
			fake.set(func() { fake.password, fake.service = "two", 7 })
			is(t, k, "gAAAA1", auth.ErrUnavailable) // logged in with the old one until now
			is(t, k, "gAAAA1", nil)
		},
		"no more answers are kept than there is room for": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			for i := range 20 {
				is(t, k, fmt.Sprint("gAAAA2", i), auth.ErrUnauthorized)
			}
			for i := range 20 {
				is(t, k, fmt.Sprint("gAAAA2", i), auth.ErrUnauthorized)
			}
			if n := fake.looks(); n < 36 || n > 40 {
				t.Errorf("asked %d times with room for 4", n)
			}
		},
		"what cannot be a token is not asked for": func(t *testing.T, k *auth.Keystone, fake *fakeKeystone) {
			for _, token := range []string{"", "a b", "a\nb", "é", strings.Repeat("x", 20<<10)} {
				if _, err := k.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrUnauthorized) {
					t.Errorf("%q: %v", token, err)
				}
			}
			if n := fake.looks(); n != 0 {
				t.Errorf("asked %d times", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k, fake := keystone(t, 4)
				story(t, k, fake)
			})
		})
	}
}

func TestKeystoneConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	_, err := auth.NewKeystone(auth.KeystoneConfig{Username: "u"})
	for _, want := range []string{"auth_url", "user_domain", "project_domain", "password"} {
		if err == nil || !strings.Contains(err.Error(), want+" is missing") {
			t.Errorf("want %q in %v", want, err)
		}
	}
	k, _ := keystone(t, 0)
	if got := k.Challenge(); got != `Keystone uri="http://keystone:5000/v3"` {
		t.Errorf("challenge %s", got)
	}
}
