// Package chaos breaks a deployment of real processes while clients work with it,
// mends it, and has the evidence judged. What is broken, and when, follows from a
// seed.
package chaos
