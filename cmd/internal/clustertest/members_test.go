package clustertest

import (
	"fmt"
	"slices"
)

// member lets one more node join, or has one leave for good.
func (s *story) member(m *Member) {
	if s.rnd.IntN(2) == 0 {
		s.leave(m)
		return
	}
	if s.joined == 2 {
		return
	}
	s.joined++
	joins := s.c.Join(fmt.Sprintf("new%d", s.joined))
	s.note("joins: %s", joins.ID)
	s.stats.Add("member: joins", 1)
}

// away is how many members cannot do their part.
func (s *story) away() int {
	if s.leaving != nil {
		return len(s.broken) + 1
	}
	return len(s.broken)
}

// leave turns a node off for good, one at a time, and has an operator remove it, who
// tries until it is done.
func (s *story) leave(m *Member) {
	_, broken := s.broken[m]
	back := s.rnd.IntN(4)
	if broken || s.leaving != nil || len(s.c.members()) < 4 || !s.c.canSpare(m) {
		return
	}
	s.note("leaves: %s", m.ID)
	s.stats.Add("member: leaves", 1)
	s.leaving = m
	s.c.PowerOff(m)
	s.unstick(m)
	s.operator.Go(func() {
		if err := s.c.Remove(m); err != nil {
			s.t.Error(err)
			return
		}
		s.note("removed: %s", m.ID)
		s.stats.Add("member: removed", 1)
		s.left <- departure{m, back}
	})
}

// departure is a member that was removed, and how it comes back.
type departure struct {
	member *Member
	back   int
}

// comeBack starts a node again that was removed: as a new one with an empty disk, or
// with the disk that it had, which locks it out; or never.
func (s *story) comeBack() {
	select {
	case d := <-s.left:
		s.leaving = nil
		s.returned = slices.DeleteFunc(s.returned, func(m *Member) bool { return m == d.member })
		switch d.back {
		case 0:
			s.note("comes back with the disk that it had: %s", d.member.ID)
			s.stats.Add("member: comes back with its old disk", 1)
			s.returned = append(s.returned, d.member)
		case 1:
			s.note("comes back with an empty disk: %s", d.member.ID)
			s.stats.Add("member: comes back with an empty disk", 1)
			d.member.disk.wipe()
		default:
			return
		}
		s.c.comeBack(d.member)
	default:
	}
}

// admit empties the disks of nodes that came back with what they had before they were
// removed, as their log tells an operator to. Any other node joins by itself.
func (s *story) admit() {
	for _, m := range s.returned {
		if !m.disk.used() || !slices.Contains(s.c.members(), m) {
			continue // it never had anything, or was removed once more
		}
		s.note("locked out: %s", m.ID)
		s.stats.Add("member: locked out", 1)
		s.c.Kill(m)
		m.disk.wipe()
		s.c.Restart(m)
	}
}
