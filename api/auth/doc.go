// Package auth says who asks something of the API, and who may ask what. It knows
// nothing of HTTP: a token goes in, a [Caller] comes out, and [Policies] say what a
// caller may do.
package auth
