// Package evidence keeps what was seen of a deployment that was broken on purpose,
// in files, and judges it: whether every promise held. It needs nothing but the
// files, so that a run can be judged again, elsewhere and by a later version.
package evidence
