package clustertest

import (
	"errors"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// fault breaks something.
func (s *story) fault(m *Member, cluster string) {
	switch s.rnd.IntN(16) {
	case 0, 1:
		s.breaks(m, "cut", func() { s.c.Cut(m) }, func() { s.c.Heal(m) })
	case 2:
		s.cutOneWay(m)
	case 3:
		s.split()
	case 4:
		s.breaks(m, "kill", func() { s.c.Kill(m) }, func() { s.c.Restart(m) })
	case 5:
		s.breaks(m, "kill the agent, not the driver", func() { s.c.KillAgent(m) }, func() { s.c.Restart(m) })
	case 6, 7:
		what, machine := "stop the process", s.rnd.IntN(2) == 0
		if machine {
			what = "stop the machine"
		}
		s.breaks(m, what, func() { s.c.Pause(m, machine) }, func() { s.c.Resume(m) })
	case 8:
		s.breaks(m, "the disk hangs", func() { m.disk.stall(true) }, func() { m.disk.stall(false) })
	case 9:
		err := []error{errNoSpace, errIO}[s.rnd.IntN(2)]
		s.breaks(m, "the disk fails", func() { m.disk.fail(err) }, func() { s.mendDisk(m) })
	case 10:
		s.breaks(m, "hand over", func() { s.c.Stop(m) }, func() { s.c.Restart(m) })
	case 11:
		s.behave(m, cluster)
	case 12:
		s.member(m)
	case 14:
		s.stepWallClock(m)
	case 15:
		s.stick(m)
	case 13:
		switch s.rnd.IntN(6) {
		case 0:
			s.blackout(cluster)
		case 1:
			s.powerCut()
		default:
			s.behave(m, cluster)
		}
	}
}

// stepWallClock puts a wall clock ahead or behind by up to an hour.
func (s *story) stepWallClock(m *Member) {
	ahead := time.Duration(s.rnd.Int64N(int64(2*time.Hour))) - time.Hour
	s.note("wall clock: %s is ahead by %v", m.ID, ahead)
	s.stats.Add("fault: wall clock stepped", 1)
	s.c.StepWallClock(m, ahead)
}

// breaks breaks a member in a way that mend mends. Mostly a majority is left.
func (s *story) breaks(m *Member, what string, apply, mend func()) {
	_, already := s.broken[m]
	if already || m == s.leaving || s.away() >= (len(s.c.voters())-1)/2 && s.rnd.IntN(8) > 0 {
		return
	}
	s.note("%s: %s", what, m.ID)
	s.stats.Add("fault: "+what, 1)
	s.broken[m] = func() {
		s.note("mended: %s", m.ID)
		mend()
	}
	apply()
}

// mendDisk replaces a disk that failed, and starts the process anew, as whoever
// sees to a broken disk does: Raft may have lost track of what is on it.
func (s *story) mendDisk(m *Member) {
	m.disk.fail(nil)
	s.c.Kill(m)
	s.c.Restart(m)
}

// mendOne mends a random one of what is broken.
func (s *story) mendOne() {
	if s.stuck != nil && s.rnd.IntN(8) == 0 {
		s.unstick(s.stuck)
		return
	}
	if len(s.links) > 0 && s.rnd.IntN(2) == 0 {
		s.links[0]()
		s.links = s.links[1:]
		return
	}
	for _, m := range s.c.members() { // in the order of members: a seed names a run
		if mend, ok := s.broken[m]; ok && s.rnd.IntN(2) == 0 {
			delete(s.broken, m)
			mend()
			return
		}
	}
}

// cutOneWay makes one node deaf to another.
func (s *story) cutOneWay(from *Member) {
	to := s.someone(s.rnd.IntN(1000), false)
	if to == from {
		return
	}
	s.note("cut one way: %s to %s", from.ID, to.ID)
	s.stats.Add("fault: cut one way", 1)
	s.c.net.cut(from.ID, to.ID)
	s.links = append(s.links, func() { s.join(from, to) })
}

// join lets a node hear another again, unless one of them is cut off from all.
func (s *story) join(from, to *Member) {
	if s.c.isCut(from.ID) || s.c.isCut(to.ID) {
		return
	}
	s.note("joined: %s to %s", from.ID, to.ID)
	s.c.net.join(from.ID, to.ID)
}

// split cuts the nodes into two groups.
func (s *story) split() {
	left := map[*Member]bool{}
	all := s.c.members()
	var names []string
	for _, m := range all {
		if left[m] = s.rnd.IntN(2) == 0; left[m] {
			names = append(names, m.ID)
		}
	}
	s.stats.Add("fault: split", 1)
	var cut [][2]*Member
	for _, a := range all {
		for _, b := range all {
			if left[a] && !left[b] {
				s.c.net.cut(a.ID, b.ID)
				s.c.net.cut(b.ID, a.ID)
				cut = append(cut, [2]*Member{a, b}, [2]*Member{b, a})
			}
		}
	}
	s.note("split: %v", names)
	s.links = append(s.links, func() {
		for _, l := range cut {
			s.join(l[0], l[1])
		}
	})
}

// behave sets how the array behaves.
func (s *story) behave(m *Member, cluster string) {
	a := s.c.Arrays[cluster]
	if s.rnd.IntN(4) > 0 {
		b := Behaviour(s.rnd.IntN(int(behaviours)))
		s.note("the next promotion of %s will %s", cluster, b)
		a.Next(b)
		return
	}
	host := m.HostIn(cluster)
	refuses := s.rnd.IntN(2) == 0
	s.note("failover_completed of %s is refused: %v", host, refuses)
	s.stats.Add("fault: failover_completed refused", 1)
	if refuses {
		a.RefuseSwitch(host, errRefused)
	} else {
		a.RefuseSwitch(host, nil)
	}
}

// powerCut kills every node that runs at the same moment, and starts them again.
func (s *story) powerCut() {
	s.note("power cut")
	s.stats.Add("fault: power cut", 1)
	var lost []*Member
	for _, m := range s.c.members() {
		if _, broken := s.broken[m]; !broken && m != s.leaving {
			s.c.PowerOff(m)
			s.unstick(m)
			lost = append(lost, m)
		}
	}
	for _, m := range lost {
		s.c.Restart(m)
	}
}

// blackout separates every node from every other, and asks all the same (G15).
func (s *story) blackout(cluster string) {
	s.note("blackout")
	s.stats.Add("fault: blackout", 1)
	for _, m := range s.c.members() {
		s.c.Cut(m)
	}
	<-time.After(answerTimeout) // what was under way has ended
	for _, m := range s.c.Live() {
		s.t.Errorf("%s is cut off and counts as in touch", m.ID)
	}
	for _, m := range s.c.members() {
		if _, broken := s.broken[m]; broken {
			continue
		}
		s.clients.Go(func() { s.g15NothingWithoutAQuorum(m, cluster) })
	}
	<-time.After(blackoutTime + time.Duration(s.rnd.Int64N(int64(time.Second))))
	for _, m := range s.c.members() {
		s.c.Heal(m)
	}
	s.links = nil
}

// blackoutTime is how long a node tries in a blackout: longer than a lease, with
// the time before.
const blackoutTime = time.Second

// g15NothingWithoutAQuorum: a node that reaches no other accepts nothing, and
// serves nothing once its leases have ended.
func (s *story) g15NothingWithoutAQuorum(m *Member, cluster string) {
	err := s.c.Ask(m, blackoutTime-time.Millisecond, fsm.SetClusterDisabled{Cluster: cluster})
	if err == nil || errors.As(err, new(*fsm.Refusal)) {
		s.t.Errorf("G15: %s without any other node answers a request: %v", m.ID, err)
	}
	if _, serves := m.Hosts.Serves(cluster); serves {
		s.t.Errorf("G15: %s serves after %v without any other node", m.ID, answerTimeout+blackoutTime)
	}
}

// heal mends everything.
func (s *story) heal() {
	for _, mend := range s.links {
		mend()
	}
	s.links = nil
	for _, m := range s.c.members() {
		if mend, ok := s.broken[m]; ok {
			delete(s.broken, m)
			mend()
		}
		if _, up := s.c.node(m.ID); !up && m != s.leaving {
			s.c.Restart(m)
		}
		s.c.Heal(m)
	}
	for _, a := range s.c.members() {
		for _, b := range s.c.members() {
			s.c.net.join(a.ID, b.ID)
		}
	}
	for _, a := range s.c.Arrays {
		a.Heal()
	}
	s.c.net.setWeather(nil)
	s.operator.Wait()
	s.comeBack()
	s.withoutTheStuck()
	s.note("all is mended")
}
